from .planning import plan_study as plan_study
from .status import study_status as study_status
from .worker import work as work
