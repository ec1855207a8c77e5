"""Texts of the help of `python -m server`: each verb's examples, and the exit codes."""

from __future__ import annotations

DESCRIPTION = "Sets up a coordinating center, runs it, registers hospitals, starts studies and shows their results."


EXIT_CODES = """\
exit codes:
  0 ok   2 usage   3 configuration   4 file   5 credentials   6 SuperLink not reachable   7 the run failed
  8 the study is done, without a site that it names   130 stopped by Ctrl-C"""


EXAMPLES = {
    "": """\
the usual order:
  python -m server init --address center.example.org     # once: keys, certificates, proxy, start script
  center/start.sh                                         # or the systemd units in center/systemd
  python -m server register duke duke.key.pub             # each hospital's PUBLIC key
  python -m server run recurrence.toml --follow           # a study
  python -m server watch recurrence                       # how far it is, live
  python -m server results                                # its table, one line a site""",
    "init": """\
  python -m server init --address center.example.org
  python -m server init --address 192.0.2.7:8443 --directory /srv/center
  python -m server init --renew                           # a new server certificate from the same authority

It can be repeated: it writes missing files, and never overwrites a key.""",
    "start": """\
  python -m server start
  python -m server start --no-proxy                       # with a TLS proxy of your own: see docs/deployment.md
  python -m server start --only superlink                 # what the systemd units call
  python -m server start --log-format json                # each study's study.log, for a program that collects logs

A process that ends is restarted. SIGTERM or Ctrl-C stops all of them. No log grows beyond 5 MB and five older ones.""",
    "register": """\
  python -m server register duke duke.key.pub
  python -m server register duke new.key.pub --replace    # the hospital's new key; the old one is revoked at once

The hospital makes the pair: ssh-keygen -t ecdsa -b 384 -N '' -f duke
The name identifies the hospital in every study.""",
    "unregister": """\
  python -m server unregister duke

Effective at once, including in a run. The same key cannot be registered again.""",
    "run": """\
  python -m server run recurrence.toml --follow
  python -m server run --set study=pilot --set task=recurrence_clinical --set rounds=5
  python -m server run recurrence.toml --set resume=true  # continue from the last checkpoint
  python -m server run recurrence.toml --set rounds=30 --write study.toml   # the file that hospitals approve
  python -m server run recurrence.toml --folds 5 --repeats 3 --write study.toml   # cross-validation, approved as one
  python -m server run study.toml --leave-out each        # each site in turn as a new hospital
  python -m server run study.toml --canary --write canary.toml            # what hospitals approve before the canary
  python -m server run study.toml --canary --follow       # one real round at all sites, to see whether it would run

STUDY.toml holds `key = value` lines; docs/study_settings.md explains the keys. The hospitals
receive these settings and no code.

A canary is a study of its own, STUDY-canary: one round at all named sites or none. Its weights are deleted; a verdict
for each site stays, in canary.json. It ends with 7 if a site failed. Private training charges that round.""",
    "validate": """\
  python -m server validate recurrence --sites elm --write elm.toml     # what the hospital approves
  python -m server validate recurrence --sites elm --follow             # then have it score the network
  python -m server validate recurrence --file elm.json                  # or add a file that it sent by hand

A finished network, frozen, at hospitals that were not in its study. No weights leave a hospital: it scores all its
patients with a known outcome and sends what it sends of test patients. A hospital that is not connected makes the file
by itself, with the verb validate of its own program. Both ways give the same numbers, which are added to the results
and the report of the study.""",
    "compare": """\
  python -m server compare recurrence recurrence_private --write compare.toml    # what the hospitals approve
  python -m server compare recurrence recurrence_private --follow                # then have them score both networks
  python -m server compare recurrence recurrence_private --sites oak,elm --checkpoint last --follow

Two finished networks on the same test patients of each hospital, each patient scored by both. No weights and no
patient's score leave a hospital: it counts pairs of its patients, and right calls. The center adds them up to DeLong's
and McNemar's paired tests, with Holm's correction over all such tests of the first study, as rows of its results,
comparisons.csv and report. Where a study had secure aggregation only sums over three hospitals or more leave, and
without it counts in coarse steps. Both studies must have the same split; of another split, task or outcome one sentence
says so.""",
    "export": """\
  python -m server export recurrence --format safetensors --out model    # for hospitals: predict, validate
  python -m server export recurrence --format onnx --out onnx            # for other programs
  python -m server export recurrence --format monai-bundle --out bundle

With a model card, the licence, and a description of the inputs. ONNX and torch.export files standardise tables
themselves; what they compute is compared with the network, on every subset of the modalities, before anything is
written.""",
    "withdraw": """\
  python -m server withdraw recurrence --site oak
  python -m server withdraw recurrence --site oak --write without-oak.toml    # and the settings to train without it

What a hospital's patients taught the weights cannot be taken out of them. So weights, results and report are marked,
who uses them is told, and what holds the hospital's part is listed. The settings written are those of the same study
with the other hospitals, under another name: these approve them, and the study runs again.""",
    "status": """\
  python -m server status
  python -m server status --json
  python -m server status --prometheus /var/lib/node_exporter/federation.prom   # each minute, by cron or a timer

The file is for the textfile collector of Prometheus's node exporter: sites connected, the study's state, its round, the
seconds of the last one, epsilon by site. It is replaced as a whole, and says so when the SuperLink does not answer.""",
    "watch": """\
  python -m server watch recurrence                       # live, until the study ends; Ctrl-C ends the watch alone
  python -m server watch                                  # of the study written last; piped, a line a change
  python -m server watch recurrence --notify 'mail -s study lead@center.example.org'

Shows the round, who answered, who is awaited since when, the time that is left, the validation by round, norms, what
was rejected and why, and what each site spent of its privacy. status.html in the study's folder of results shows the
same in a browser. Ends as the study does: 0 done, 7 failed, 8 done without a site that it names.""",
    "audit": """\
  python -m server audit                                  # keys registered and revoked, studies started
  python -m server audit recurrence                       # each message of a study

One line for each message sent and received, each key registered or revoked, each study started; never a value. Exits
4 if a line was changed, removed or moved.""",
    "results": "  python -m server results\n  python -m server results recurrence --json",
    "report": """\
  python -m server report recurrence                      # writes report.html and figures/ into the study's folder
  python -m server report recurrence --answers study.toml --open
  python -m server report recurrence --compare recurrence_private             # both on one page
  python -m server report --file exact.json --checkpoint model.safetensors    # of the validation at one hospital

A study writes its report when it ends, also when it fails. One HTML file, which loads and runs nothing; figures as
SVG, PDF and CSV beside it. All of it is made of results.json. What no data can tell, as the population and the
outcome's definition, is in the [report] table of a study's file: docs/report.md lists its keys.""",
}
