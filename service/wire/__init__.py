"""What goes over the wire: requests, answers, problems.

It imports in milliseconds, without torch.
"""
