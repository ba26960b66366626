"""`cachesaver ls`, `show`, `explain` and `diff`: they look, and change nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ._saying import as_json, cache, console, plain_errors, say_json

if TYPE_CHECKING:
    from .._finding import Explanation, FoundPrompt, FoundSample


@click.command("ls", short_help="List prompts.")
@cache()
@click.argument("text", required=False)
@click.option("--scope", "scopes", multiple=True, help="A model or path, or a pattern: 'api.openai.com/*'.")
@click.option("--namespace", "namespaces", multiple=True, help="Only what was drawn there; 'run-1/*' works.")
@click.option("--limit", default=50, show_default=True, help="How many at most, newest first.")
@as_json
def list_prompts(
    cache: Path, text: str | None, scopes: tuple[str, ...], namespaces: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """List the prompts of CACHE that contain TEXT, newest first."""
    from rich.markup import escape
    from rich.table import Table

    from .._finding import find_prompts
    from .._looking import looking

    with plain_errors(), looking(cache) as look:
        found = find_prompts(look, text, scopes, namespaces, limit)
    if as_json:
        say_json([asdict(prompt) for prompt in found])
        return
    table = Table("prompt", "samples", "first seen", "scope", "asked")
    for prompt in found:
        cells = (str(prompt.id), str(prompt.samples), prompt.first_seen[:16], prompt.scope, shortened(prompt.prompt))
        table.add_row(*map(escape, cells))
    console().print(table)


@click.command(short_help="Show all samples of a prompt, and who drew them.")
@cache()
@click.argument("prompt")
@as_json
def show(cache: Path, prompt: str, as_json: bool) -> None:
    """Show all samples of PROMPT, a number that ls prints or a part of its text, and who drew which."""
    from .._finding import prompt_named, samples_of
    from .._looking import looking

    with plain_errors(), looking(cache) as look:
        found = prompt_named(look, prompt)
        if len(found) != 1:
            raise click.ClickException(_which(prompt, found))
        samples = samples_of(look, found[0])
    if as_json:
        say_json({**asdict(found[0]), "samples": [asdict(sample) for sample in samples]})
        return
    click.echo(f"prompt {found[0].id} of {found[0].scope}, first seen {found[0].first_seen}\n{pretty(found[0].prompt)}")
    for sample in samples:
        click.echo(f"\n{_about(sample)}\n{pretty(sample.answer)}")


@click.command(short_help="Why is this prompt a miss?")
@cache()
@click.argument("prompt")
@click.option("--scope", help="The model or path that is asked, where several have the prompt.")
@click.option("--namespace", help="Also say what is left of it in this namespace.")
@as_json
def explain(cache: Path, prompt: str, scope: str | None, namespace: str | None, as_json: bool) -> None:
    """Why is PROMPT a miss? Says what CACHE knows of it, or the nearest prompt that it knows and how that differs.

    PROMPT is the JSON that the model is asked, a text that is no JSON object, or @FILE with either.
    """
    from .._finding import explain as explained
    from .._looking import looking

    with plain_errors(), looking(cache) as look:
        found = explained(look, read_prompt(prompt), scope, namespace)
    if as_json:
        say_json([_explained(one) for one in found])
        return
    for one in found:
        click.echo("\n".join(_sentences(one, namespace)))


@click.command(short_help="Compare two caches.")
@cache("a")
@cache("b")
@as_json
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Compare two caches; ends with 1 if they differ."""
    from .._comparing import compare

    with plain_errors():
        comparison = compare(a, b)
    if as_json:
        say_json({"equal": comparison.equal, **asdict(comparison)})
    else:
        for example in comparison.examples:
            click.echo(example)
        click.echo(f"{comparison.same} samples the same, {comparison.different} different at the same position")
        for name, side in (("A", comparison.only_a), ("B", comparison.only_b)):
            counts = f"{side.prompts} prompts, {side.samples} samples, {len(side.namespaces)} namespaces"
            click.echo(f"only in {name}: {counts}")
    if not comparison.equal:
        raise SystemExit(1)


def read_prompt(given: str) -> Any:
    """The prompt that a user means: JSON where it is an object or a list, else the text itself; or that of a file."""
    text = Path(given[1:]).expanduser().read_text(encoding="utf-8") if given.startswith("@") else given
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return cast("Any", value) if isinstance(value, (dict, list)) else text


def shortened(value: Any) -> str:
    """What tells a prompt from others, in a line: the end of a chat, for its beginning is often the same."""
    text = value if isinstance(value, str) else json.dumps(_spoken(value), ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:60]} … {text[-37:]}"


def _spoken(value: Any) -> Any:
    """The last message of a chat; else the value itself."""
    messages = _field(value, "messages")
    return _field(cast("list[Any]", messages)[-1], "content") if isinstance(messages, list) and messages else value


def _field(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name, value) if isinstance(value, dict) else value


def pretty(value: Any) -> str:
    """A text as it is, JSON indented."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _about(sample: FoundSample) -> str:
    tokens = "" if sample.input_tokens is None else f", {sample.input_tokens}+{sample.output_tokens} tokens"
    cost = "" if sample.cost is None else f", ${sample.cost:.6f}"
    lines = [f"sample {sample.position}, bought {sample.bought_at}, {sample.seconds:.2f} s{tokens}{cost}"]
    if sample.rejected is not None:
        lines.append(f"  REJECTED: {sample.rejected}")
    for use in sample.uses:
        named = "" if use["request_id"] is None else f" as {use['request_id']!r}"
        lines.append(f"  drawn in {use['namespace']!r}{named} (ordinal {use['ordinal']}), {use['delivered_at']}")
    return "\n".join(lines)


def _which(name: str, found: list[FoundPrompt]) -> str:
    if not found:
        return f"no prompt contains {name!r}; see what there is with: cachesaver ls"
    listed = "\n".join(f"  {prompt.id}  {shortened(prompt.prompt)}" for prompt in found)
    return f"{name!r} is in {len(found)} prompts or more; give the number of one:\n{listed}"


def _explained(one: Explanation) -> dict[str, Any]:
    nearest = None if one.nearest is None else one.nearest._asdict()
    return {**asdict(one), "nearest": nearest, "known": one.known}


def _sentences(one: Explanation, namespace: str | None) -> list[str]:
    if not one.known:
        if one.nearest is None:
            return ["The cache holds no prompt at all."]
        lines = ["The cache does not hold this prompt.", f"The nearest that it holds, of {one.nearest.scope}:"]
        return [*lines, f"  {shortened(one.nearest.prompt)}", *(f"  differs in {each}" for each in one.differences)]
    rejected = f", {one.rejected} more are rejected" if one.rejected else ""
    lines = [f"{one.scope}: the cache holds {one.samples} samples of this prompt{rejected}."]
    if namespace is not None:
        left = one.samples - len(one.drawn)
        count = "1 is" if left == 1 else f"{left} are"
        drawn = f"has drawn {', '.join(map(str, one.drawn))}" if one.drawn else "has drawn none of them"
        lines.append(f"Namespace {namespace!r} {drawn}. {count} left: asking for more buys the rest.")
        if one.drawn:
            lines.append("Run again, it gets what it drew, in the same order or by the same ids, and for nothing.")
    return lines
