from .planning import plan_study as plan_study
from .retrying import StorageUnavailableError as StorageUnavailableError
from .status import study_status as study_status
from .stopping import Stop as Stop
from .worker import DeviceLostError as DeviceLostError
from .worker import work as work
