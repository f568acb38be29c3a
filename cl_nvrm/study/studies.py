"""All studies, by group; a group has a folder of runs and figures of its own."""

from cl_nvrm.study import continual, generalisation, mechanism, randomisation, steadiness
from cl_nvrm.study.definitions import Study

IMPLICIT = {
    "implicit-rate": Study(
        "Does label noise act at the rate η²σ²?", "implicit.figures.rate_law", numbers="implicit.figures.rate_numbers"
    ),
    "implicit-recovery": Study(
        "Which noise finds the simple truth behind the labels?",
        "implicit.figures.recovery",
        numbers="implicit.figures.recovery_numbers",
    ),
    "implicit-kinks": Study(
        "Does label noise iron a ReLU network between collinear points?",
        "implicit.figures.kinks",
        numbers="implicit.figures.kink_numbers",
    ),
    "implicit-units": Study(
        "Does label noise make the units of a network alike?",
        "implicit.figures.units",
        numbers="implicit.figures.unit_numbers",
    ),
}

CALIBRATION = {
    "intervals-and-stars": Study(
        "How often do our intervals cover, and how often are our stars wrong?",
        "calibration.figure",
        numbers="calibration.numbers",
    ),
}

GROUPS: dict[str, dict[str, Study]] = {
    "continual": continual.STUDIES,
    "mechanism": mechanism.STUDIES,
    "generalisation": generalisation.STUDIES,
    "randomisation": randomisation.STUDIES,
    "steadiness": steadiness.STUDIES,
    "implicit": IMPLICIT,
    "calibration": CALIBRATION,
}
