"""How the report looks, on a desk, a telephone and paper."""

STYLE = """
:root { --ink: #1c2733; --soft: #5b6773; --line: #dde2e7; --tint: #f5f7f9; --accent: #00798c; }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.5rem; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
header, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.2rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.2rem); line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; }
p, li { max-width: 75ch; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
nav { position: sticky; top: 0; z-index: 1; background: #ffffffee; border-bottom: 1px solid var(--line); }
nav div { max-width: 1180px; margin: 0 auto; padding: .5rem 1.25rem; display: flex; gap: 1.2rem; overflow-x: auto; }
nav a { color: var(--ink); text-decoration: none; white-space: nowrap; font-size: .92rem; }
nav a:hover { color: var(--accent); }
.grid { display: grid; gap: 1rem; align-items: start; }
.maps { grid-template-columns: repeat(auto-fill, minmax(min(100%, 265px), 1fr)); }
.patches { grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); gap: .6rem; margin-bottom: .6rem; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; }
.plots img { max-width: 720px; }
figcaption { overflow-wrap:anywhere; padding: .25rem 0 0; }
.bar { display: flex; align-items: center; gap: .6rem; max-width: 420px; margin: .7rem 0; font-size: .85rem; }
.bar i { flex: 1; height: .7rem; border-radius: .35rem; }
.scroll { overflow-x: auto; margin: .4rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
tr.rule td { border-top: 2px solid var(--line); }
td.best { font-weight: 700; color: var(--accent); }
.overview th:nth-child(2), .overview td:nth-child(2) { text-align: right; }
.overview th[colspan] { text-align: center; }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.4; }
footer { padding: 2rem 1.25rem 3rem; color: var(--soft); font-size: .88rem; }
@media print {
  @page { margin: 14mm; }
  nav { display: none; }
  body { font-size: 10pt; }
  header, main, footer { max-width: none; padding: 0; }
  h2, h3 { break-after: avoid; }
  figure, tr, .bar { break-inside: avoid; }
  .maps { grid-template-columns: repeat(3, 1fr); }
  .plots { grid-template-columns: repeat(2, 1fr); }
  .patches { grid-template-columns: repeat(6, 1fr); }
  .scroll, pre { overflow: visible; white-space: pre-wrap; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .35rem; white-space: normal; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
