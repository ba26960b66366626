"""For the tests of programs that use cachesaver: a counting model, and clocks that jump.

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return jumping(request.param)
"""

from ._clocks import jumping as jumping
from ._model import CountingModel as CountingModel
from ._model import FakeBatchModel as FakeBatchModel
