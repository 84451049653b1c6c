"""ATIF, the Agent Trajectory Interchange Format of Harbor, versions 1.0 to 1.7.

Read from its specification (laude-institute/harbor, `docs/rfcs/0001-trajectory-format.md`; a copy in
OpenAgentsInc/openagents, `docs/atif/`) and from the reference of NVIDIA's `nat.atif` for 1.7.

    a step          of the agent is a call; its observation's results stand in the order of its calls
    copied          steps of `is_copied_context` were sent and are no calls
    ids             `prompt_token_ids` and `completion_token_ids` are taken at their word
    sub-agents      `subagent_trajectories`, or files beside this one that a result refers to: threads of their own
    continued       `continued_trajectory_ref`, a file beside this one: its calls follow
"""

import pathlib

from labkit.thinking.messages import shown
from labkit.thinking.sessions import parts
from labkit.thinking.sessions.format import Format
from labkit.thinking.sessions.gathering import usage
from labkit.thinking.sessions.rows import Unreadable

ROLES = {"user": "user", "agent": "assistant", "system": "system"}


def read(rows, gathered):
    """Every trajectory; of several each is a thread of its own."""
    found = [(line, one) for line, row in rows for one in (row if isinstance(row, list) else [row])]
    reader = Reader(gathered, {gathered.path.resolve()})
    for n, (line, one) in enumerate(found, 1):
        parts.tried(reader.trajectory, one, line, gathered.problems, "", line, str(n) if len(found) > 1 else "")


class Reader:
    """Trajectories of a file and of those that it refers to.

    Args:
        gathered: of the file. seen: files that were read.
    """

    def __init__(self, gathered, seen):
        self.gathered, self.seen, self.here = gathered, seen, set()

    def trajectory(self, given, line, thread, own=True):
        """Add the calls of a trajectory under the name of a thread; with `own` under its own, unless that is ""."""
        given = parts.mapping(given)
        if "steps" not in given:
            raise Unreadable("an object without steps")
        if thread and own:
            names = (given.get("trajectory_id"), given.get("session_id"), thread)
            names = [name for name in names if isinstance(name, str) and name and name not in self.here]
            thread = names[0] if names else thread
            self.here.add(thread)
        self._steps(given, line, thread)
        for n, one in enumerate(self._tried(parts.many, given.get("subagent_trajectories"), line) or [], 1):
            where = f"sub-agent {n}: "
            parts.tried(self.trajectory, one, line, self.gathered.problems, where, line, f"{thread}/{n}".lstrip("/"))
        if given.get("continued_trajectory_ref") is not None:
            self._beside(given["continued_trajectory_ref"], line, thread, "a continued trajectory")

    def _steps(self, given, line, thread):
        agent = self._tried(parts.mapping, given.get("agent"), line, "agent: ") or {}
        tools = self._tried(parts.tools, agent.get("tool_definitions"), line)
        said = []
        for n, step in enumerate(self._tried(parts.many, given.get("steps"), line, "steps: ") or [], 1):
            where = f"step {n} "
            if (made := self._tried(_messages, step, line, where)) is None:
                continue
            made = self.gathered.kept(made)
            if step["source"] == "agent" and self._is_call(step, made[0], line, where):
                metrics = self._tried(parts.mapping, step.get("metrics"), line, where) or {}
                reply = self._tried(_with_ids, made[0], line, where, metrics) or made[0]
                names = [name for name in (step.get("model_name"), agent.get("model_name")) if isinstance(name, str)]
                more = dict(thread=thread, tools=tools, time=parts.seconds(step.get("timestamp")))
                more |= {"usage": _usage(metrics, line, self.gathered), "model": names[0] if names else None}
                self.gathered.call(said, reply, line=line, **more)
            said += made
            for path in self._refers(step, line, where):
                self._beside(
                    path, line, f"{thread}/{pathlib.PurePath(path).stem}".lstrip("/"), "a sub-agent's trajectory"
                )

    def _is_call(self, step, reply, line, where):
        count = step.get("llm_call_count")
        if step.get("is_copied_context") is True:
            self.gathered.leave_out("a step copied from before; it is sent and is no call")
        elif count == 0 and type(count) is int:
            self.gathered.leave_out("a step of the agent without a call of the model; it is sent")
        elif not any(reply.get(name) for name in ("content", "reasoning_content", "tool_calls")):
            self.gathered.leave_out("an empty reply")
        else:
            if type(count) is int and count > 1:
                self.gathered.problem(line, f"{where}is of {count} calls of the model, read as one")
            return True
        return False

    def _refers(self, step, line, where):
        """Paths of sub-agents' files that the results of a step refer to."""
        found = []
        for result in parts.many(parts.mapping(step.get("observation")).get("results")):
            given = result.get("subagent_trajectory_ref")
            for one in self._tried(parts.many, [given] if isinstance(given, dict) else given, line, where) or []:
                path = one.get("trajectory_path") if isinstance(one, dict) else None
                found += [path] if path is not None else []
        return [one for one in found if isinstance(one, str)]

    def _beside(self, name, line, thread, what):
        """Read a file of this folder or below it, once."""
        home = self.gathered.path.resolve().parent
        path = (home / name).resolve() if isinstance(name, str) and "\0" not in name else None
        if path in self.seen:
            return
        if path is None or not path.is_relative_to(home) or not path.is_file():
            self.gathered.problem(line, f"{what} that is not beside this file: {shown(name)}")
            return
        self.seen.add(path)

        def more(rows, inner):
            reader = Reader(inner, self.seen)
            for at, one in rows:
                parts.tried(reader.trajectory, one, at, inner.problems, "", at, thread, False)

        self.gathered.beside(path, more)

    def _tried(self, function, value, line, where="", *more):
        return parts.tried(function, value, line, self.gathered.problems, where, *more)


def _messages(step):
    """The messages of a step: what was said, and the results of its calls."""
    step = parts.mapping(step)
    source = step.get("source")
    if not isinstance(source, str) or source not in ROLES:
        raise Unreadable(f"of unknown source {shown(source)}")
    if "message" not in step:
        raise Unreadable("without a message")
    said = {"role": ROLES[source], "content": parts.result(step["message"])}
    ids = []
    if source == "agent":
        said["reasoning_content"] = step.get("reasoning_content")
        calls = [parts.mapping(call) for call in parts.many(step.get("tool_calls"))]
        ids = [call.get("tool_call_id") for call in calls]
        said["tool_calls"] = [{"name": call.get("function_name"), "arguments": call.get("arguments")} for call in calls]
    results = [parts.mapping(one) for one in parts.many(parts.mapping(step.get("observation")).get("results"))]
    if any(not {"content", "subagent_trajectory_ref"} & set(result) for result in results):
        raise Unreadable("with a result that shows nothing")
    results.sort(key=lambda one: ids.index(one["source_call_id"]) if one.get("source_call_id") in ids else len(ids))
    role = "tool" if ids else "user"  # what follows no call is told in words
    results = [{"role": role, "content": parts.result(result.get("content"))} for result in results]
    return [parts.message(message) for message in (said, *results)]


def _with_ids(reply, metrics):
    """The reply with the token ids of its call."""
    names = {"prompt_ids": "prompt_token_ids", "completion_ids": "completion_token_ids"}
    ids = {name: metrics[given] for name, given in names.items() if metrics.get(given) is not None}
    return parts.message(reply | ids) if ids else reply


def _usage(metrics, line, gathered):
    names = {"input": "prompt_tokens", "cached": "cached_tokens", "output": "completion_tokens"}
    found = {name: metrics.get(given) for name, given in names.items()}
    more = metrics.get("extra") if isinstance(metrics.get("extra"), dict) else {}
    found["thinking"] = more.get("reasoning_tokens")
    return usage(found, line, gathered)


STEP = {"source": ("user", "agent", "system"), "message": ...}
TRAJECTORY = {"steps": [STEP]}
SIGNS = (TRAJECTORY, [TRAJECTORY], {"schema_version": str, "agent": dict, "steps": [STEP]})
SIGNS += ([{"schema_version": str, "steps": [STEP]}],)
FORMAT = Format("atif", "ATIF trajectories", SIGNS, read)
