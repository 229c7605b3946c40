"""A comparison as one web page that needs nothing else: no network, no scripts, no other files."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from cmb_lightning.data.publish import replace
from cmb_lightning.results import report_sections as sections
from cmb_lightning.results.compare import Comparison
from cmb_lightning.results.report_style import STYLE
from cmb_lightning.results.tables import label

SECTIONS = {
    "summary": "Summary",
    "maps": "Maps",
    "spectra": "Spectra",
    "errors": "Errors",
    "differences": "Differences",
    "calibration": "Error bars",
    "tables": "All numbers",
    "making": "How it was made",
}


def write_report(
    comparison: Comparison,
    path: str | Path,
    title: str = "Cleaned CMB maps compared",
    command: str = "",
    configuration: Mapping[str, str] | None = None,
) -> Path:
    """Write the page.

    Args:
        comparison: What was found.
        path: The file; its folder is made if missing.
        title: Heading.
        command: The command that makes it again.
        configuration: Texts for the last section by heading, such as each run's YAML and versions.

    Returns:
        The file.
    """
    makers = {
        "summary": sections.summary,
        "maps": sections.maps,
        "spectra": sections.spectra,
        "errors": sections.errors,
        "differences": sections.differences,
        "calibration": sections.calibration,
        "tables": sections.tables,
    }
    the = sections.the_reference(comparison)
    parts = {name: "".join(maker(comparison)) for name, maker in makers.items()}
    parts["making"] = "".join(sections.making(comparison, command, configuration or {}))
    shown = {name: text for name, text in parts.items() if text}
    links = "".join(f'<a href="#{name}">{SECTIONS[name]}</a>' for name in shown)
    body = "".join(f'<section id="{name}"><h2>{SECTIONS[name]}</h2>{text}</section>' for name, text in shown.items())
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="soft">{escape(_subtitle(comparison))}</p></header>'
        f"<nav><div>{links}</div></nav><main>{body}</main>"
        f"<footer>Made by cmb_lightning. p is a prediction, t {escape(the)}; all maps in µK<sub>CMB</sub>.</footer>"
        "</body></html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, page.encode())
    return path


def _subtitle(comparison: Comparison) -> str:
    sims = [len(comparison.main_scores[split, comparison.methods[0]]) for split in comparison.splits]
    counts = ", ".join(f"{split} ({n} simulations)" for split, n in zip(comparison.splits, sims, strict=True))
    beams = ", ".join(f"{beam:g}" for beam in comparison.beams)
    methods = ", ".join(map(label, comparison.methods))
    return f"{methods} against {sections.the_reference(comparison)} of {counts}; common beam {beams} arcmin."
