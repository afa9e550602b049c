import time

import numpy as np

from exporter import memory


def test_what_was_in_use_only_while_it_ran_is_seen():
    before = memory.resident_bytes()
    with memory.watched(0.01) as most:
        block = np.ones(1 << 25)  # 256 MiB
        time.sleep(0.1)
        del block
        memory.give_back()
    assert most() - before >= 200 << 20
    assert memory.resident_bytes() - before < 100 << 20
    assert memory.peak_bytes() >= 0.9 * most()  # the kernel counts in batches
