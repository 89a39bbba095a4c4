"""How the page of a report looks: readable on a phone and on a desk, by day and by night."""

from __future__ import annotations

# Colours of text have at least 4.5 : 1 contrast with their paper, light and dark.
STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f8fa; --ink: #1f2328;
  --muted: #57606a; --faint: #d0d7de; --link: #0550ae; --good: #116329; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --card: #161b22; --ink: #e6edf3;
  --muted: #9da7b3; --faint: #3d444d; --link: #79c0ff; --good: #56d364; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 1rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--faint); overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
p, li { overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
.muted, figcaption, .note { color: var(--muted); font-size: .875rem; }
.note { margin: .25rem 0; }
.warning { border-left: 4px solid #d55e00; background: var(--card); padding: .5rem .75rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { width: max-content; border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
.title { font-weight: 600; font-size: .9rem; margin: 1rem 0 .25rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
thead th { color: var(--muted); font-weight: 600; border-bottom: 1px solid var(--faint);
  vertical-align: bottom; }
tbody th { font-weight: inherit; }
tbody tr + tr > * { border-top: 1px solid var(--faint); }
.words { text-align: left; white-space: normal; overflow-wrap: break-word; max-width: 44rem; }
.bold, .best { font-weight: 700; }
.best { color: var(--good); }
.faint { color: var(--muted); }
.heat td { padding: .3rem .4rem; text-align: center; border: 2px solid var(--paper);
  min-width: 2.9rem; }
.heat td.mean { font-weight: 700; padding-left: .75rem; }
.heat tbody tr > th { font-weight: 400; text-align: left; border: 0; max-width: 13rem;
  overflow: hidden; text-overflow: ellipsis; position: sticky; left: 0; background: var(--paper); }
.heat thead th { text-align: center; border: 0; padding: .1rem; }
.heat thead th.words { text-align: left; min-width: 5rem; padding-left: .4rem; }
.pictures { columns: 2 440px; gap: 2rem; margin: 1rem 0; }
.pictures > * { break-inside: avoid; padding-bottom: .5rem; }
figure { margin: 0; max-width: 560px; }
svg { width: 100%; height: auto; display: block; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: inherit !important; }
pre { background: var(--card); padding: .75rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .85rem; }
details { margin: .75rem 0; border: 1px solid var(--faint); border-radius: 6px;
  padding: .5rem .75rem; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
@media (max-width: 600px) { body { padding: .75rem .75rem 3rem; font-size: 15px; }
  h1 { font-size: 1.35rem; } .words { max-width: 15rem; }
  th, td { padding: .25rem .4rem; }
  .heat td { min-width: 1.6rem; padding: .25rem 0; font-size: .68rem; border-width: 1px; }
  .heat td.mean { padding-left: .3rem; }
  .heat th, .heat thead th.words { font-size: .68rem; padding: .25rem .1rem; min-width: 0; }
  .heat thead th.words, .heat tbody tr > th { max-width: 4.2rem; white-space: normal; }
  .heat thead th.words { overflow-wrap: normal; }
  .heat tbody tr > th { overflow-wrap: anywhere; line-height: 1.2; } }
@media print { body { max-width: none; } details::details-content { content-visibility: visible; } }
"""
