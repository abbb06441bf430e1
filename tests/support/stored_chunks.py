"""What an attempt has streamed, as it is stored."""

from agent_service.domain.events import Chunk
from agent_service.store import Store


async def all_chunks(store: Store, context_id: str, attempt: int) -> list[Chunk]:
    """All chunks of an attempt, however many pages they fill."""
    chunks: list[Chunk] = []
    while True:
        page = await store.chunks.read(context_id, attempt, after=chunks[-1].seq if chunks else 0)
        chunks += page.chunks
        if page.complete:
            return chunks
