"""A notebook, in a real kernel: sync stacks, `await` at top level, a drop-in client, and progress."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import anyio
import nbformat
import pytest
from nbclient import NotebookClient

from ._provider_server import provider_server

CELLS = [
    """
    import anyio, cachesaver
    from cachesaver import Cache, online
    from cachesaver.models.openai import AsyncOpenAI, OpenAI

    calls = 0

    async def model(prompt, n):
        global calls
        calls += n
        await anyio.sleep(0.7)  # so that progress is drawn more than once
        return [f"{prompt} {index}" for index in range(n)]
    """,
    """
    with Cache("cache") as cache, cachesaver.sync(online(model, cache)) as api:
        print(api.request("plain", n=2).data)
    """,
    """
    with Cache("cache") as cache:
        async with online(model, cache) as api:
            response = await api.request("await", n=2)
    response.data
    """,
    """
    messages = [{"role": "user", "content": "Say"}]
    with OpenAI() as client:
        print(client.chat.completions.create(model="tiny", messages=messages).choices[0].message.content)
    """,
    """
    async with AsyncOpenAI() as client:
        completion = await client.chat.completions.create(model="big", messages=messages)
    completion.choices[0].message.content
    """,
    """
    with Cache("cache") as cache, cachesaver.sync(online(model, cache)) as api:
        with api.map([f"p{number}" for number in range(300)], progress="in a thread") as responses:
            print(len(list(responses)))
    """,
    """
    with Cache("cache") as cache:
        async with online(model, cache) as api, api.map(range(9), progress=True) as responses:
            print([response[0] async for response in responses])
    """,
    "print('bought', calls)",
]


def execute(folder: Path, environment: dict[str, str]) -> list[Any]:
    """The outputs of each cell, in a new kernel."""
    cells = [nbformat.v4.new_code_cell(re.sub(r"^    ", "", cell, flags=re.M).strip()) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources=resources)
    anyio.run(lambda: client.async_execute(env=environment))
    return [cell.outputs for cell in notebook.cells]


def text(outputs: list[Any]) -> str:
    """What a reader sees of the output of a cell, without colours."""
    texts = [output["text"] if output.output_type == "stream" else output.data["text/plain"] for output in outputs]
    return re.sub(r"\x1b\[[0-9;]*m", "", "".join(texts))


def test_a_notebook_that_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S5: the same answers, nothing bought; and no error, warning or word on stderr in any cell."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    with provider_server() as server:
        environment = os.environ | {
            "OPENAI_API_KEY": "key",
            "OPENAI_BASE_URL": f"{server.url}/v1",
            "IPYTHONDIR": str(tmp_path / "ipython"),
        }
        first, second = (execute(tmp_path, environment) for _ in range(2))
        assert server.sold == 2
    for cell in [*first, *second]:
        for output in cell:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
    assert text(first[1]) == "['plain 0', 'plain 1']\n"
    assert text(first[2]) == "['await 0', 'await 1']"
    assert text(first[-1]) == "bought 313\n"
    assert text(second[-1]) == "bought 0\n"
    assert [text(cell) for cell in second[:5]] == [text(cell) for cell in first[:5]]
    for cells, bought in ((first, True), (second, False)):
        for cell, name, count, answers in (
            (cells[5], "in a thread", 300, "300\n"),
            (cells[6], "cachesaver", 9, str([f"{number} 0" for number in range(9)]) + "\n"),
        ):
            assert "".join(output["text"] for output in cell if output.output_type == "stream") == answers
            (shown,) = (output.data for output in cell if output.output_type == "display_data")  # drawn anew, in place
            assert name in shown["text/html"]
            assert f"{count} of {count} (100 %)" in shown["text/html"]
            assert (f"{count} bought" if bought else f"{count} from the cache (100 %)") in shown["text/html"]
