"""No bad input is a traceback, none is taken in silence, and none deletes or half-writes anything."""

import pytest

from tests.bad_inputs import cases
from tests.bad_inputs.case import outcome

ALL = cases()


@pytest.mark.parametrize("case", ALL, ids=[f"{case.entry}: {case.name}" for case in ALL])
def test_it_is_refused_in_a_sentence_and_touches_nothing(case, tmp_path):
    good, came = outcome(case, tmp_path)
    assert good, came


def test_no_two_have_one_name():
    names = [(case.entry, case.name) for case in ALL]
    assert len(set(names)) == len(names)
