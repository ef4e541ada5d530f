"""The config, read from its files and the command line, checked before any job, and completed.

READS   config.yaml, files after --configfile, settings after --config, or the config of a module
WRITES  nothing
PAPER   nothing
COST    a second
"""

import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.pathvars import Pathvars
from snakemake.utils import update_config

# The folder of this project, whatever the working directory is. Results, logs and files of the user
# belong to the working directory.
PROJECT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(PROJECT / "scripts"))

from critical_tokens.configuration import completion, files
from critical_tokens.workflow import briefing
from critical_tokens.workflow.refusals import refusing

# A module has a config of its own. Snakemake then ignores `configfile:` and the command line.
IS_MODULE = workflow.modifier.skip_configfile
STATED = workflow.config_settings

with refusing():
    LAYERS = files.read_files(
        [PROJECT / "config.yaml", *([] if IS_MODULE else STATED.configfiles)]
    )


# An absolute path, because the workflow may run in another folder (--directory, -s, module).
configfile: f"{PROJECT}/config.yaml"


# A module's config states only what differs from config.yaml.
if IS_MODULE:
    LAYERS.append(files.Layer("the module's config", dict(config)))
    config.update(load_configfile(PROJECT / "config.yaml"))
    update_config(config, LAYERS[-1].content)
else:
    LAYERS.append(files.Layer(files.COMMAND_LINE, dict(STATED.config)))

with refusing():
    SWEPT = completion.complete(config, LAYERS, PROJECT)
workflow.pathvars.update(Pathvars.from_config(config, module_level=IS_MODULE))
# A benchmark file says which rule and which wildcards it belongs to.
workflow.output_settings.benchmark_extended = True

# Only in the main process, because the jobs of a command read this file too.
if workflow.is_main_process:
    for line in briefing.lines(config, LAYERS[0].content):
        print(line, file=sys.stderr)
    with refusing():
        completion.check_folders(config)
