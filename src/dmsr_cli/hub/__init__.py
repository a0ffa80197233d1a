"""Files from the Hugging Face Hub and to it; every failure is one line that says what to do.

The `huggingface_hub` library does the transfers and keeps the cache; its settings hold here too:
HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE. It is imported on first use, because the command
line must start without it.
"""

from dmsr_cli.hub.address import HUB_PREFIX as HUB_PREFIX
from dmsr_cli.hub.address import REPOSITORY_PATTERN as REPOSITORY_PATTERN
from dmsr_cli.hub.address import HubFile as HubFile
from dmsr_cli.hub.address import parse_hub_address as parse_hub_address
from dmsr_cli.hub.cache import find_cached as find_cached
from dmsr_cli.hub.cache import set_aside as set_aside
from dmsr_cli.hub.connection import is_offline as is_offline
from dmsr_cli.hub.connection import offline as offline
from dmsr_cli.hub.explaining import not_on_this_computer as not_on_this_computer
from dmsr_cli.hub.fetching import OnBytes as OnBytes
from dmsr_cli.hub.fetching import download as download
from dmsr_cli.hub.listing import find_weights as find_weights
from dmsr_cli.hub.listing import list_weights as list_weights
from dmsr_cli.hub.listing import scale_in_name as scale_in_name
from dmsr_cli.hub.listing import weights_by_scale as weights_by_scale
