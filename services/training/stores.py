"""`/v1/stores`: what there is to learn from."""

from anyio import to_thread
from fastapi import APIRouter, Depends

from services.training.parts import Given
from services.training.problems import problems
from services.training.schemas import StoreList
from services.web.errors import DependencyUnavailable
from services.web.guard import reader

router = APIRouter(prefix="/v1/stores", tags=["stores"], dependencies=[Depends(reader)])


@router.get("", summary="List crop stores", responses=problems(DependencyUnavailable))
async def list_all(parts: Given) -> StoreList:
    """Every crop store that a plan may name, with what it holds and under which terms."""
    return StoreList(stores=tuple(await to_thread.run_sync(parts.stores.all)))
