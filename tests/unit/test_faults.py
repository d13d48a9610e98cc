"""The faults of `make mutants`: a fault that is not in the code any more kills nothing, and is found here."""

from collections import Counter

from ..faults import faults, selected


def test_every_fault_stands_in_the_code_once(root):
    lost = {
        (file, name): count
        for name, file, old, _, _ in faults()
        if (count := (root / "src" / "fewstep" / file).read_text(encoding="utf-8").count(old)) != 1
    }
    assert not lost


def test_every_fault_changes_something_and_has_a_name_of_its_own(root):
    assert not [name for name, _, old, new, _ in faults() if old == new]
    twice = [key for key, count in Counter(fault[:2] for fault in faults()).items() if count > 1]
    assert not twice


def test_the_tests_that_a_fault_names_are_there(root):
    for named in {fault[4] for fault in faults()}:
        for own in selected(named):
            file, _, function = own.partition("::")
            text = (root / file).read_text(encoding="utf-8")
            assert not function or f"def {function.partition('[')[0]}(" in text, own
