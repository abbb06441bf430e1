"""
The soak: mixed faults under load for minutes or hours, judged by the history checker.

    python -m tests.faults.soak --minutes 20 [--seed 7] [--rate 4]

Everything that is broken follows from the seed, and so does every request; only the moments do not.
"""
