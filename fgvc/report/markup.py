"""The pieces that the report of a run is put together from: the frame with style and script, sections, tables, figures.

Every word that comes from outside goes through `escape` here; only pieces of HTML are handed on as they are.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from fgvc.report import charts

Row = Sequence[str | tuple[str, float]]

STYLE = """
:root{color-scheme:light dark;--ink:#1d1d1b;--soft:#66665f;--paper:#fafaf7;--card:#fff;--line:#e3e3dc;
--c1:#2f6db5;--c2:#c2571a;--c3:#1a7a50;--c4:#8450b3;--c5:#8f7016;--c6:#b23a68}
@media(prefers-color-scheme:dark){:root{--ink:#ecece6;--soft:#a3a39a;--paper:#161615;--card:#1f1f1d;--line:#35352f;
--c1:#6ea8ec;--c2:#f0905a;--c3:#57c292;--c4:#c096ea;--c5:#d6b45c;--c6:#ee86ac}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main,header,footer{max-width:1080px;margin:0 auto;padding:0 1.25rem}
header{padding-top:2rem}
h1{margin:0;font-size:1.9rem;line-height:1.2}h2{margin:0 0 .6rem;font-size:1.25rem}h3{margin:0;font-size:1rem}
p{margin:.25rem 0 .75rem;max-width:70ch}small,.soft,figcaption,caption{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1.25rem;margin:1.25rem 0}
.facts{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;margin:.5rem 0;padding:0;list-style:none}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:1.5rem}
figure{margin:0;min-width:0}figcaption{font-size:.85rem;margin-top:.35rem}.chart{max-width:560px;margin-bottom:.75rem}
.lead{font-size:1.1rem}.wide{overflow-x:auto}.wide+.wide{margin-top:1.25rem}.two>*{margin:0!important}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;overflow-wrap:normal}
caption{text-align:left;font-size:.85rem;padding-bottom:.35rem}
th,td{text-align:left;padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{font-weight:600;white-space:nowrap}tbody th{font-weight:400}.n{text-align:right;white-space:nowrap}
th button{all:unset;cursor:pointer;font-weight:600}
th button::after{content:" ↕";color:var(--soft)}
[aria-sort=ascending] button::after{content:" ↑"}[aria-sort=descending] button::after{content:" ↓"}
:focus-visible{outline:3px solid var(--c1);outline-offset:2px;border-radius:2px}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:1.25rem}
.trio{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.5rem;margin-top:.5rem}
.looks{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:1rem}
img,.blank{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:var(--line);border-radius:6px}
.trio figcaption,.looks figcaption{line-height:1.3;font-size:.8rem}.good{color:var(--c3)}.bad{color:var(--c2)}
summary{cursor:pointer;font-weight:600}
.skip{position:absolute;left:-99em}.skip:focus{left:1rem;top:.5rem}
@media(max-width:600px){main,header,footer{padding:0 .75rem}section{padding:1rem}table{font-size:.85rem}}
@media print{section{break-inside:avoid}}
"""

SCRIPT = """
for(const table of document.querySelectorAll("table.sort")){
  const heads=[...table.tHead.rows[0].cells],body=table.tBodies[0];
  const key=(row,i)=>row.cells[i].dataset.v??row.cells[i].textContent;
  heads.forEach((head,i)=>{
    const button=document.createElement("button");
    button.type="button";button.append(...head.childNodes);head.append(button);
    button.addEventListener("click",()=>{
      const down=head.getAttribute("aria-sort")==="ascending",number=head.classList.contains("n");
      const order=(a,b)=>number?key(a,i)-key(b,i):key(a,i).localeCompare(key(b,i));
      heads.forEach(other=>other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort",down?"descending":"ascending");
      body.append(...[...body.rows].sort((a,b)=>down?order(b,a):order(a,b)));
    });
  });
}
"""


def document(title: str, body: str) -> str:
    """Return a whole page that may load nothing and may run no script but ours, whatever its names hold.

    Args:
        title: of the window.
        body: HTML.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{STYLE}{charts.STYLE}</style>
</head>
<body>
<a class="skip" href="#main">to the results</a>
{body}
<script>{SCRIPT}</script>
</body>
</html>
"""


def section(title: str, body: str) -> str:
    """Return a part of the page; body: HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def prose(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def columns(*pieces: str) -> str:
    """Return pieces of HTML beside each other, below each other where there is no room."""
    return f'<div class="two">{"".join(pieces)}</div>'


def chart(svg: str, caption: str = "") -> str:
    """Return a figure; svg: HTML."""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="chart">{svg}{words}</figure>'


def table(heads: Sequence[str], rows: Sequence[Row], caption: str = "", sort: bool = False) -> str:
    """Return a table.

    Args:
        heads: one name per column.
        rows: cells, the first names its row. A number is given as (how it is written, its value).
        caption: stands above it.
        sort: readers may sort it by a click on a head.
    """
    kinds = ["n" if rows and isinstance(cell, tuple) else "" for cell in (rows[0] if rows else heads)]
    head = "".join(
        f'<th scope="col"{_class(kind)}>{escape(name)}</th>' for name, kind in zip(heads, kinds, strict=True)
    )
    lines = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>' + "".join(map(_cell, rest)) + "</tr>\n"
        for first, *rest in rows
    )
    words = f"<caption>{escape(caption)}</caption>" if caption else ""
    region = f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption or heads[0])}">'
    kind = _class("sort") if sort else ""
    return f"{region}<table{kind}>{words}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"


def picture(source: str | None, alt: str, caption: str, mark: str = "") -> str:
    """Return a photograph with its caption.

    Args:
        source: a data: address; None draws a grey square.
        alt: what a person who does not see it is told.
        caption: stands under it.
        mark: its colour, `good` or `bad`.
    """
    shown = f'<div class="blank" role="img" aria-label="{escape(alt)}"></div>'
    if source:
        shown = f'<img src="{escape(source)}" alt="{escape(alt)}">'
    return f"<figure>{shown}<figcaption{_class(mark)}>{escape(caption)}</figcaption></figure>"


def _cell(cell: str | tuple[str, float]) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f'<td class="n" data-v="{cell[1]:.6g}">{escape(cell[0])}</td>'


def _class(name: str) -> str:
    return f' class="{escape(name)}"' if name else ""
