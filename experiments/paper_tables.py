"""The paper's tables as data: which runs there are, and which of their scores make a row."""

from dataclasses import dataclass, field, replace

from experiments.jobs import Job


@dataclass(frozen=True)
class Budget:
    """How long everything trains, on how much; `full` has the paper's settings."""

    lr: str
    pretrain: int  # epochs of Table 1's task-adaptive pre-training
    after_pretrain: int  # epochs of fine-tuning in Table 1
    pairs: dict[str, int]  # epochs of Table 2
    single: dict[str, int]  # epochs of Table 3's single-task row
    routine: int  # global epochs of sequential, parallel, shuffle, adaptive
    pretrain_all: int  # epochs of Table 3's pre-training on all three sets
    routine_after: int  # global epochs after it
    frozen: int = 10
    data: tuple[str, ...] = ()  # arguments that make the data smaller
    small: tuple[str, ...] = ()  # the same for pre-training on all three sets and what follows it

    @property
    def of_small(self) -> "Budget":
        """The budget of the runs whose data is `small`."""
        return replace(self, data=self.small)


TABLE_2, TABLE_3 = "Table 2: Sentence-BERT", "Table 3: routines"
TABLE_4_JOB = "parallel"  # whose test predictions are Table 4
PAPER_TEST_SCORES = {"SST": 0.514, "Quora": 0.879, "STS": 0.859}  # Table 4, of parallel training
WIDE = "siamese, larger embedding"
ROUTINES = ("sequential", "parallel")  # that follow pre-training in the paper
FEWER = ", fewer rows"  # no pre-training, and as few rows as the runs that follow it have
NO_FILES = "--skip-predictions"
SMALL = ("--limit", "quora=16000", "--limit-dev", "quora=4000")
CPU = Budget(
    lr="5e-5",
    pretrain=2,
    after_pretrain=2,
    pairs={"quora": 1, "sts": 2},
    single={"sst": 2, "quora": 1, "sts": 2},
    routine=1,
    pretrain_all=1,
    routine_after=1,
    data=SMALL,
    small=SMALL,
)
BUDGETS = {
    "full": Budget(
        lr="1e-5",
        pretrain=50,
        after_pretrain=5,
        pairs={"quora": 10, "sts": 10},
        single={"sst": 10, "quora": 5, "sts": 10},
        routine=5,
        pretrain_all=2,
        routine_after=3,
    ),
    "cpu": CPU,
    # Table 3 alone
    "all-rows": replace(CPU, single={"sst": 5, "quora": 2, "sts": 5}, routine=2, data=()),
}


@dataclass(frozen=True)
class Cell:
    """A score of a job's best step, and the paper's figure."""

    job: str
    task: str
    paper: float | None = None
    is_at_half: bool = False  # not the main score, but the accuracy at a cosine of 0.5
    is_small: bool = False  # of less data than the table's other runs have


@dataclass(frozen=True)
class PaperRow:
    """One line of a table, by column. `ours`: not in the paper."""

    label: str
    cells: dict[str, Cell]
    ours: bool = False


@dataclass(frozen=True)
class PaperTable:
    """Rows, and the jobs they need in an order in which they can run."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    jobs: tuple[Job, ...] = field(repr=False)


@dataclass(frozen=True)
class Question:
    """What the difference between two rows of a table answers."""

    text: str
    row: str
    against: str


QUESTIONS = (
    Question("Does parallel stay close to single-task training?", "parallel", "single task"),
    Question("Sequential against parallel:", "sequential", "parallel"),
    Question("Does shuffling beat taking turns?", "shuffle", "parallel"),
    Question("Do adaptive batch sizes?", "adaptive batch sizes", "parallel"),
    Question("Does pre-training help a task?", "with pre-training", "without pre-training"),
    *(
        Question(f"Does pre-training help {mode} training?", f"pre-training + {mode}", against)
        for mode in ROUTINES
        for against in (mode, f"{mode}{FEWER}")
    ),
    Question("How far is siamese behind cross?", "siamese cosine-mse", "vanilla BERT"),
    Question("", "siamese contrastive", "vanilla BERT"),
    Question("", "siamese mnr", "vanilla BERT"),
    Question("", "siamese softmax", "vanilla BERT"),
    Question("", "siamese mnr-full", "vanilla BERT"),
    Question("", WIDE, "vanilla BERT"),
)


def fine_tuning_job(name: str, b: Budget, epochs: int, *options: str, start: str = "") -> Job:
    """Return a run on all three tasks."""
    files = () if name == TABLE_4_JOB else (NO_FILES,)
    common = ("--epochs", str(epochs), "--lr", b.lr, *b.data, *files)
    return Job(name, (*common, *options), start=start)


def single(task: str, b: Budget, epochs: int, *options: str, start: str = "", tag: str = "") -> Job:
    """Return a run on one task alone."""
    name = f"single-{task}-{epochs}{tag}"
    data = b.data if task == "quora" else ()
    common = ("--mode", "single", "--tasks", task, "--epochs", str(epochs), "--lr", b.lr, *data)
    return Job(name, (*common, NO_FILES, *options), start=start)


def pretraining_job(name: str, b: Budget, epochs: int, tasks: str) -> Job:
    """Return a run of pretrain_mlm.py."""
    limit = b.data[:2] if "quora" in tasks else ()  # rows to train on; there is no dev set
    every_text = ("--held-out", "0")  # and the last epoch, as in the paper
    arguments = ("--epochs", str(epochs), "--lr", b.lr, "--tasks", tasks, *limit, *every_text)
    return Job(name, arguments, script="pretrain_mlm")


def table_1(b: Budget) -> PaperTable:
    """Return section 4.3's table: additional pre-training on the task's own text."""
    plain = {task: single(task, b, b.after_pretrain) for task in ("sst", "sts")}
    mlm = {task: pretraining_job(f"mlm-{task}", b, b.pretrain, task) for task in plain}
    after = {
        task: single(task, b, b.after_pretrain, start=mlm[task].name, tag="-mlm") for task in plain
    }
    paper = {"sst": (0.524, 0.515), "sts": (0.863, 0.870)}
    rows = tuple(
        PaperRow(label, {t.upper(): Cell(jobs[t].name, t, paper[t][i]) for t in jobs})
        for i, (label, jobs) in enumerate(
            {"without pre-training": plain, "with pre-training": after}.items()
        )
    )
    jobs = (*plain.values(), *mlm.values(), *after.values())
    return PaperTable("Table 1: additional pre-training", ("SST", "STS"), rows, jobs)


def table_2(b: Budget, wide: int) -> PaperTable:
    """Return section 4.4's table: Sentence-BERT's losses; Quora at a cosine of 0.5 and calibrated.

    wide: the size of the larger embedding.
    """
    jobs = {task: single(task, b, b.pairs[task]) for task in ("quora", "sts")}
    rows = [
        PaperRow(
            "vanilla BERT",
            {
                "Quora": Cell(jobs["quora"].name, "quora", 0.889),
                "STS": Cell(jobs["sts"].name, "sts", 0.869),
            },
        )
    ]
    losses = {  # label: loss, options, paper's Quora, paper's STS; a dash where there is none
        "siamese cosine-mse": ("cosine-mse", (), "-", 0.762),
        "siamese contrastive": ("contrastive", (), 0.748, 0.760),
        "siamese mnr": ("mnr", (), 0.474, "-"),
        "siamese softmax": ("softmax", (), None, "-"),
        "siamese mnr-full": ("mnr-full", (), None, "-"),
        WIDE: ("", ("--embedding-size", str(wide)), None, None),
    }
    for label, (name, options, quora, sts) in losses.items():
        cells = {}
        for task, paper in (("quora", quora), ("sts", sts)):
            if paper == "-":
                continue
            loss = name or {"quora": "contrastive", "sts": "cosine-mse"}[task]
            siamese = ("--pair-encoding", "siamese", "--pair-loss", loss, "--pooling", "mean")
            tag = f"-{loss}-{wide}" if options else f"-{loss}"
            job = single(task, b, b.pairs[task], *siamese, *options, tag=tag)
            jobs[job.name] = job
            if task == "sts":
                cells["STS"] = Cell(job.name, "sts", paper)
                continue
            if loss != "softmax":
                cells["Quora"] = Cell(job.name, "quora", paper, is_at_half=True)
            cells["Quora, calibrated"] = Cell(job.name, "quora")
        ours = quora in (None, "-") and sts in (None, "-")
        rows.append(PaperRow(label, cells, ours))
    columns = ("Quora", "Quora, calibrated", "STS")
    return PaperTable(TABLE_2, columns, tuple(rows), tuple(jobs.values()))


def table_3(b: Budget) -> PaperTable:
    """Return section 4.5's table: the multi-task routines."""
    alone = {task: single(task, b, epochs) for task, epochs in b.single.items()}
    frozen = ("--epochs", str(b.frozen))
    baseline = Job(
        "baseline",
        # shuffle: so many passes over each set, as in the paper, not over the largest one
        ("--mode", "shuffle", "--fine-tune-mode", "last-linear-layer", *frozen, *b.data, NO_FILES),
    )
    mlm = pretraining_job("mlm-all", b.of_small, b.pretrain_all, "sst,quora,sts")
    after = ("mlm", mlm.name)

    def routine(name: str, *options: str) -> Job:
        return fine_tuning_job(name, b, b.routine, *options)

    def smaller(mode: str, tag: str, start: str = "") -> Job:
        name = f"{mode}-{tag}"
        return fine_tuning_job(name, b.of_small, b.routine_after, "--mode", mode, start=start)

    fewer = {f"{mode}{FEWER}": (smaller(mode, "fewer"), None) for mode in ROUTINES}
    has_small = b.small != b.data
    runs = {
        "baseline": (baseline, (0.408, 0.736, 0.540)),
        "sequential": (routine("sequential", "--mode", "sequential"), (0.387, 0.863, 0.879)),
        "parallel": (routine("parallel", "--mode", "parallel"), (0.505, 0.877, 0.863)),
        **(fewer if has_small else {}),
        "pre-training + sequential": (smaller("sequential", *after), (0.394, 0.821, 0.876)),
        "pre-training + parallel": (smaller("parallel", *after), (0.505, 0.873, 0.870)),
        "shuffle": (routine("shuffle", "--mode", "shuffle"), None),
        "adaptive batch sizes": (routine("adaptive", "--batch-size", "adaptive"), None),
    }
    titles = {"sst": "SST", "quora": "Quora", "sts": "STS"}
    rows = []
    for label, (job, paper) in runs.items():
        figures = dict(zip(titles, paper or (None,) * 3, strict=True))
        is_small = has_small and (bool(job.start) or label in fewer)
        cells = {titles[t]: Cell(job.name, t, figures[t], is_small=is_small) for t in titles}
        rows.append(PaperRow(label, cells, ours=paper is None))
    best = dict(zip(titles, (0.533, 0.889, 0.874), strict=True))
    cells = {titles[t]: Cell(alone[t].name, t, best[t]) for t in titles}
    rows.insert(1, PaperRow("single task", cells))
    jobs = (baseline, *alone.values(), mlm, *(job for job, _ in list(runs.values())[1:]))
    return PaperTable(TABLE_3, tuple(titles.values()), tuple(rows), jobs)


def tables(budget: str, wide: int) -> dict[str, PaperTable]:
    """Return a budget's tables by number; Table 4 is test predictions of Table 3's parallel run."""
    b = BUDGETS[budget]
    if budget == "all-rows":
        return {"3": table_3(b)}
    return {"1": table_1(b), "2": table_2(b, wide), "3": table_3(b)}
