"""One figure a table, and the forgetting curves of sequential training."""

from pathlib import Path

from experiments.results import Result, RunKey, is_finished
from minbert.files import read_json_lines as read_log


def draw_figures(folder: Path, results: list[Result], root: Path) -> None:
    """Bars with the paper's figure marked, a file a table; each task after every sub-epoch."""
    try:
        import matplotlib
    except ImportError:
        print("no figures: they need matplotlib, `pip install -e .[report]`")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for table in dict.fromkeys(r.table for r in results):
        own = [r for r in results if r.table == table and r.scores]
        if not own:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(own) + 1.5))
        labels = [f"{r.row}: {r.column}" for r in own]
        axes.barh(labels, [r.mean for r in own], xerr=[r.spread for r in own], color="#4c78a8")
        marks = [(r.paper, i) for i, r in enumerate(own) if r.paper is not None]
        axes.plot(*zip(*marks, strict=True), "D", color="#e45756", label="paper") if marks else None
        axes.invert_yaxis()
        axes.set(title=table, xlabel="dev score")
        if marks:
            axes.legend()
        name = table.split(":")[0].lower().replace(" ", "-")
        figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
    forgetting = RunKey(root, "sequential", 11711).folder
    if is_finished(forgetting):
        stages = [x for x in read_log(forgetting / "log.jsonl") if x["event"] == "dev"]
        figure, axes = pyplot.subplots(figsize=(8, 4))
        for task in stages[0]["scores"]:
            values = [next(iter(x["scores"][task].values())) for x in stages]
            axes.plot([x["stage"] for x in stages], values, marker="o", label=task)
        axes.set(title="Sequential training: dev scores after each stage", ylabel="dev score")
        axes.tick_params(axis="x", rotation=45)
        axes.legend()
        figure.savefig(folder / "forgetting.png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
