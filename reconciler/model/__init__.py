"""Pure values: what is wished, what is seen, what to do about it, and what to say.

Nothing here opens a file, asks a clock or starts a process. Read `vm`, `observed`, `plan`, `status` in this order.
"""
