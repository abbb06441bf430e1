"""Addresses that are shown to people hold no secret."""

import pytest

from agent_service.settings.masking import mask_uri


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://localhost:27017/?replicaSet=rs0", "mongodb://localhost:27017/?replicaSet=rs0"),
        ("mongodb://ann:hush@db:27017/x", "mongodb://********@db:27017/x"),
        ("mongodb+srv://ann:hu@sh@db.example.org", "mongodb+srv://********@db.example.org"),
        ("https://ann:hush@models.example.org/v1", "https://********@models.example.org/v1"),
        ("ann:hush@db", "********@db"),
        ("mongodb://db/?tls=true&tlsCertificateKeyFilePassword=hush", None),
        ("https://models.example.org/v1?key=hush", "https://models.example.org/v1?key=********"),
        ("https://models.example.org/v1?hush", "https://models.example.org/v1?********"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri: str, shown: str | None) -> None:
    masked = mask_uri(uri)

    assert "hush" not in masked
    assert "ann" not in masked
    assert masked == (shown or "mongodb://db/?tls=true&tlsCertificateKeyFilePassword=********")
