"""Mutants of sweeps: whose folder it is, what is kept, what is added, who writes."""

from tests.mutants import Mutant

SWEEPS = "labkit/sweeps.py"
TEST = "tests/test_sweeps.py::test_"
OTHER = f"{TEST}a_folder_of_another_sweep_is_refused"
SUMS = f"{TEST}sums_are_those_of_the_units_however_often_they_stop"
DAMAGED = f"{TEST}a_damaged_file_is_told_and_made_again"
AGAIN = f"{TEST}nothing_finished_is_computed_again"
MODEL = f"{TEST}a_worker_with_another_model_is_refused"
ORDER = f"{TEST}sums_of_workers_are_in_order"

MUTANTS = [
    Mutant(SWEEPS, '"units": folders.mark(units),', '"units": 0,', OTHER),
    Mutant(SWEEPS, '"scaling": repr(lab.scaling),', '"scaling": "",', OTHER),
    Mutant(SWEEPS, "int(match[2]) < done:", "int(match[2]) <= done:", SUMS),
    Mutant(SWEEPS, "if done <= upto and", "if done < upto and", SUMS),
    Mutant(SWEEPS, "hexdigest()[:32] == match[3]", "hexdigest()[:1] != match[3]", DAMAGED),
    Mutant(SWEEPS, '_write(self.folder, "unit", n, result)', "pass", AGAIN),
    Mutant(SWEEPS, "(now := lasting(lab)) != identity", "(now := lasting(lab)) == 0", MODEL),
    Mutant(SWEEPS, "values + sums[name] if", "values - sums[name] if", ORDER),
]
