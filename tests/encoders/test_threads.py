import threading

import torch

from hyperspy_fewshot.encoders.threads import one_thread


def in_a_new_thread(function):
    """Result of a function in a thread that has not used torch before."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_the_setting_of_the_user_is_restored():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with one_thread():
            assert torch.get_num_threads() == 1
            with one_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        assert in_a_new_thread(torch.get_num_threads) == 3
    finally:
        torch.set_num_threads(before)


def test_errors_restore_the_setting():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        try:
            with one_thread():
                raise KeyError
        except KeyError:
            pass
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_threads_that_overlap_all_restore_the_setting():
    before = torch.get_num_threads()
    started, finish = threading.Event(), threading.Event()

    def first():
        with one_thread():
            started.set()
            finish.wait(10)
        return torch.get_num_threads()

    def second():
        # This thread uses torch for the first time while the other one has set 1.
        with one_thread():
            finish.set()
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    try:
        torch.set_num_threads(3)
        found = []
        thread = threading.Thread(target=lambda: found.append(first()))
        thread.start()
        started.wait(10)
        assert in_a_new_thread(second) == (1, 3)
        thread.join()
        assert found == [3] and in_a_new_thread(torch.get_num_threads) == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
