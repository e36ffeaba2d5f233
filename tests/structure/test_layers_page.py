"""docs/layers.md and README say what the registry has."""

from __future__ import annotations

from table import REFUSED, ROOT, TABLE, registry


def test_every_class_stands_in_the_page() -> None:
    """`make parity` was run since the last class came."""
    page = TABLE.read_text()
    for names in registry().values():
        assert [name for name in names if f"\n| {name} " not in page] == []


def test_the_counts_of_the_readme() -> None:
    """They are those of the registry."""
    text = (ROOT / "README.md").read_text()
    counts = {family: len(set(names) - set(REFUSED)) for family, names in registry().items()}
    assert f"{counts['layers']} classes of Keras 3" in text
    assert f"{counts['ops']} operations of `keras.ops`" in text
