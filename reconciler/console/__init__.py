"""The screens of VMs in browsers: noVNC services and the tokens that open consoles through them.

`consoles` is the door for the agent; `gateway` is the program of a service.
"""
