"""The courses' module name: `from config import BertConfig, PretrainedConfig`."""

from bert import NamedConfig as BertConfig

PretrainedConfig = BertConfig

__all__ = ["BertConfig", "PretrainedConfig"]
