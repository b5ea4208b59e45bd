"""Bar charts as SVG that reads well on light and dark pages: a title, groups of bars, and the value beside each."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

_WIDTH = 760
_LABELS = 240  # the bars begin here
_STEP = 22
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 15px }
.note { fill: #656d76; font-size: 12px } rect { fill: #8c959f } rect.ours { fill: #2f81f7 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #8d96a0 } rect { fill: #6e7681 } }
"""


def bars(title: str, note: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Return the SVG; bars whose name begins with "prefork" stand out. Each group has a scale of its own."""
    parts, y = [f'<text class="title" x="0" y="18">{escape(title)}</text>'], 18
    parts.append(f'<text class="note" x="0" y="36">{escape(note)}</text>')
    y = 64
    for name, values in groups.items():
        parts.append(f'<text class="title" x="0" y="{y}">{escape(name)}</text>')
        y += 8
        longest = max(values.values())
        for label, value in sorted(values.items(), key=lambda item: item[1]):
            length = round((_WIDTH - _LABELS - 60) * value / longest)
            kind = ' class="ours"' if label.startswith("prefork") else ""
            parts.append(f'<text x="{_LABELS - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
            parts.append(f'<rect{kind} x="{_LABELS}" y="{y + 3}" width="{length}" height="16" rx="2"/>')
            parts.append(f'<text x="{_LABELS + length + 6}" y="{y + 15}">{value:.1f}</text>')
            y += _STEP
        y += 24
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}">'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )
