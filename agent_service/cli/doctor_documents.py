"""What the doctor has to say of documents whose fields have wrong types."""

from agent_service.cli.finding import Finding
from agent_service.store.odd_documents import MOST_ODD, OddDocuments

_REMEDIES = {
    "requests": "mend the field by hand, or delete the request with its contexts and events",
    "contexts": "mend the field by hand; otherwise it ends as failed at its deadline, or stays as it is",
    "events": "mend or delete them: who reads the events of their request gets an error",
    "services": "mend or delete the document: a service without one is closed and held by nothing",
    "workers": "delete them: a living worker writes its own again within 15 s",
}


def judge_documents(found: list[OddDocuments]) -> list[Finding]:
    """One finding for each collection with odd documents, or one that there are none."""
    odd = [_finding(each) for each in found if each.count]
    return odd or [Finding(text="every stored field has the type that it should have")]


def _finding(odd: OddDocuments) -> Finding:
    number = f"{odd.count} or more" if odd.count >= MOST_ODD else str(odd.count)
    first = "; ".join(f"{stored_id}: {problem}" for stored_id, problem in odd.named)
    return Finding(
        text=f"{number} documents of {odd.collection} have a field of a wrong type: {first}",
        remedy=_REMEDIES[odd.collection],
    )
