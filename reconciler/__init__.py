"""A desired-state agent for QEMU virtual machines.

The way of the data is one direction, one round, four words: observe, plan, execute, summarise.
Start reading at `reconciler.converge.reconcile`, the round for one VM.
"""

__version__ = "0.1.0"
