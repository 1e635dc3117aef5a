"""Who is looked at, when, and by whom: the work queue, the workers, and the board with the latest status of each VM.

Events put names here and nothing else. Read `queue`, `worker`, `board`, then `controller`.
"""
