"""Helpers only: the config, read from its files and the command line, checked before any job, and completed."""

import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.pathvars import Pathvars
from snakemake.utils import update_config

# The folder of this project, whatever the working directory is: results, logs and a user's own files belong to the latter.
PROJECT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(PROJECT / "scripts"))

from critical_tokens.workflow import briefing
from critical_tokens.configuration import completion, files, model_entries
from critical_tokens.workflow.refusals import ConfigError, refusing, warning

# A module's own config makes Snakemake pass over `configfile:`, and over what the command line says.
IS_MODULE = workflow.modifier.skip_configfile
STATED = workflow.config_settings

with refusing():
    LAYERS = files.read_files([PROJECT / "config.yaml", *([] if IS_MODULE else STATED.configfiles)])


# Named by this file's folder: the workflow may run in another one (--directory, -s, module).
configfile: f"{PROJECT}/config.yaml"


# What a module's config does not state is as in config.yaml.
if IS_MODULE:
    LAYERS.append(files.Layer("the module's config", dict(config)))
    config.update(load_configfile(PROJECT / "config.yaml"))
    update_config(config, LAYERS[-1].content)
else:
    LAYERS.append(files.Layer(files.COMMAND_LINE, dict(STATED.config)))

with refusing():
    SWEPT = completion.complete(config, LAYERS, PROJECT)
workflow.pathvars.update(Pathvars.from_config(config, module_level=IS_MODULE))

# Once per command: jobs of a cluster read this file, too.
if workflow.is_main_process:
    for line in briefing.lines(config, LAYERS[0].content):
        print(line, file=sys.stderr)
    with refusing():
        completion.check_folders(config)


def check_packages(model):
    """End Snakemake where a job with that model would find a package missing, unless rules have environments of their own.

    A plan needs no package, so a dry run only says what a run would lack.
    """
    if workflow.is_main_process and not workflow.deployment_settings.deployment_method:
        with warning() if workflow.dryrun else refusing():
            model_entries.check_packages(config, model)


def check_task(dataset):
    """End Snakemake where a dataset's few-shot examples are not there, unless rules have environments of their own."""
    if workflow.is_main_process and not workflow.deployment_settings.deployment_method:
        with refusing():
            model_entries.check_task(config, dataset)


def refuse(sentence):
    """End Snakemake with a sentence that says what to mend."""
    with refusing():
        raise ConfigError(sentence)
