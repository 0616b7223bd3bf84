"""The page's style sheet, light and dark, in Okabe and Ito's colours.

People who are colour-blind can tell these apart; lines also differ in dashes, points in shapes.
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #ffffff;
  --edge: #d0d7de; --share-ink: 0, 114, 178;
  --run0: #0072b2; --run1: #b85c00; --run2: #00795a; --run3: #a3487e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1; --paper: #0d1117;
  --edge: #30363d; --share-ink: 86, 180, 233;
  --run0: #56b4e9; --run1: #e69f00; --run2: #2fc39b; --run3: #e08fc0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; margin: .2rem 0 .6rem; }
h2 { font-size: 1.15rem; margin: 1.8rem 0 .5rem; border-bottom: 1px solid var(--edge); }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; overflow-wrap: anywhere; }
.charts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 34rem; }
figcaption { color: var(--soft); font-size: .9rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.end { text-anchor: end; } .mid { text-anchor: middle; }
.grid { stroke: var(--edge); stroke-width: 1; fill: none; }
.equal { stroke: var(--soft); stroke-dasharray: 2 3; fill: none; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.run0 { stroke: var(--run0); } .run1 { stroke: var(--run1); }
.run2 { stroke: var(--run2); } .run3 { stroke: var(--run3); }
.dash1 { stroke-dasharray: 6 3; } .dash2 { stroke-dasharray: 2 2; }
.dash3 { stroke-dasharray: 8 2 2 2; }
.mark { fill: var(--paper); stroke-width: 1.5; }
.dot { fill: none; stroke-width: 1; opacity: .55; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
.legend li { overflow-wrap: anywhere; }
.legend .key { display: inline-block; width: 30px; height: 14px; vertical-align: middle; }
.wide { overflow-x: auto; } figure .wide { max-height: 20rem; overflow: auto; }
.wide:focus-visible, summary:focus-visible {
  outline: 3px solid var(--run0); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0; }
th, td { border: 1px solid var(--edge); padding: .25rem .5rem; text-align: left;
  vertical-align: top; }
th { font-weight: 600; } td { white-space: nowrap; }
.texts th[scope="row"] { min-width: 14rem; }
th[scope="row"] { font-weight: 400; } td { font-variant-numeric: tabular-nums; }
.share { background: rgba(var(--share-ink), calc(var(--share) * .45)); text-align: right; }
summary { cursor: pointer; padding: .3rem 0; }
"""
