"""The command line: offline tools, a client of the agent's API, and the agent's own start.

Data goes to stdout, what is said to people to stderr. Exit codes: 0 done, 1 failed or found something wrong,
2 wrong usage or settings. Heavy modules are imported where they are used: every command starts quickly.
Read `main` for the commands, `config` for where settings come from.
"""
