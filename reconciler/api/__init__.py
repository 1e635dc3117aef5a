"""The HTTP API: a thin door to the controller. Writes edit manifests, reads show the board.

Read `resources` for what there is, `operations` for how a write goes, `views` for every shape of an answer.
"""
