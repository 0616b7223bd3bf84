"""The tasks, one file each."""

from minbert.task.task import Tasks
from tasks.cfimdb import CFIMDB
from tasks.quora import QUORA
from tasks.sst import SST
from tasks.sts import STS

TASKS: Tasks = {task.name: task for task in (SST, QUORA, STS, CFIMDB)}
