"""What a rewrite rule is, how it is found by its name, and what is said of one that does not fire.

A rule is a class in one file of rules/, which ends in `RULE = <the class>`; its docstring opens with the algebra, its name is
the file's. Most are `PatternRule`s: left of the arrow a pattern of onnxscript's rewriter, right of it nodes that a GraphEditor
writes. (onnxscript's RewriteRuleSet would leave new values without type and shape, which later rules, the shadow and Q/DQ read,
and number their names through the graph.) What no pattern says, e.g. a recursion, is a `NodeRule` or `Rule` by hand. Neither
reads a weight.

Every rule says how often it fired. A network says how often it computes what a rule `serves` (`Component.forms`); a rule that
fired less often met a graph in another form, e.g. of a newer torch. That ends the export where the target requires the rule,
else it is a note of the component.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.rewriter.pattern import RewriteRule

from sprint_export.errors import InputError, MachineError
from sprint_export.export.to_onnx.graph_editor import GraphEditor, replace
from sprint_export.export.to_onnx.passes import remove_unused
from sprint_export.nouns.bundle import RuleCount
from sprint_export.nouns.student import Component
from sprint_export.nouns.target import Target

RULES = "sprint_export.export.to_onnx.rules"
Pattern = Callable[..., Any]  # (op, variables) -> the value they make, as onnxscript's rewriter takes it


class Rule(ABC):
    """A graph edit that suits one target's kernels, made for one graph.

    It leaves alone what it does not fit, and pulls no large weight.
    """

    serves = ""  # the word in Component.forms for what it must rewrite every time; empty: it may be silent

    @property
    def name(self) -> str:
        """The file's."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def apply(self, model: ir.Model) -> int:
        """Edit a model in place; how often the rule fired."""

    def expected(self, component: Component) -> int:
        """How often the rule must fire in a component's graph."""
        return component.forms.get(self.serves, 0)


class NodeRule(Rule):
    """A rule that looks at one node after the other."""

    @abstractmethod
    def apply_to(self, model: ir.Model, node: ir.Node) -> bool:
        """Rewrite what ends in a node, in place; whether there was something."""

    def apply(self, model: ir.Model) -> int:
        """Rewrite at every node, in the order of the graph; how often the rule fired."""
        count = 0
        for node in list(model.graph):
            count += node.graph is not None and self.apply_to(model, node)  # None: an earlier rewrite took it out
        remove_unused(model)
        return count


class PatternRule(NodeRule):
    """A formula and what is written in its place."""

    removes = True  # whether the pattern's inner values may have no reader outside it, since it goes as a whole
    commutes = False  # whether sums and products match in either order

    def __init__(self) -> None:
        rules = [RewriteRule(pattern, lambda op: None, lambda _, **found: self.check(**found)) for pattern in self.patterns()]
        self._rules = [each for rule in rules for each in (rule.commute() if self.commutes else [rule])]

    @abstractmethod
    def pattern(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        """The value to be replaced, made of variables with onnxscript's pattern builder."""

    @abstractmethod
    def rewrite(self, op: GraphEditor, *args: Any, **kwargs: Any) -> ir.Value | None:
        """What takes its place, made of the matched variables; None where nodes were edited as they stand."""

    def check(self, *args: Any, **kwargs: Any) -> bool:
        """What the pattern cannot say of the matched variables: shapes, types, who else reads them."""
        return True

    def patterns(self) -> Sequence[Pattern]:
        """Several patterns of one rule, tried in this order."""
        return (self.pattern,)

    def apply_to(self, model: ir.Model, node: ir.Node) -> bool:
        """Rewrite the first pattern that ends in a node; what the graph returns keeps its name, so it stays."""
        for rule in () if node.outputs[0].is_graph_output() else self._rules:
            if match := rule.match(model, model.graph, node, check_nodes_are_removable=self.removes):
                value = self.rewrite(GraphEditor(model.graph, node, str(match.outputs[0].name)), **match.bindings)
                if value is not None:
                    replace(model.graph, node, value)
                    _remove_unread(model.graph, match.nodes[1:])
                return True
        return False


def _remove_unread(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    """Take out what nothing reads, later nodes first, so that a rule that looks at readers next sees no dead ones."""
    for node in nodes:
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)


def load_rule(name: str) -> Rule:
    """A new rule of the class in a file of rules/, which alone is imported.

    Raises:
        InputError: there is no such file.
    """
    if importlib.util.find_spec(f"{RULES}.{name}") is None:
        raise InputError(f"a target names the rewrite rule {name!r}; there is no file {name}.py in export/to_onnx/rules/")
    kind: type[Rule] = importlib.import_module(f"{RULES}.{name}").RULE
    return kind()


def apply_rules(model: ir.Model, names: Sequence[str]) -> dict[str, int]:
    """Run rules in this order, in place; how often each fired."""
    return {name: load_rule(name).apply(model) for name in names}


def rewrite_graph(model: ir.Model, component: Component, target: Target) -> tuple[dict[str, RuleCount], tuple[str, ...]]:
    """Run a target's rules on the graph of a component, in place.

    Returns:
        How often each fired; notes that say so, and which fired less often than the network computes what it serves.

    Raises:
        MachineError: one of those is required by the target.
    """
    rules = {name: load_rule(name) for name in target.rewrites}
    counts = {name: RuleCount(rule.apply(model), rule.expected(component)) for name, rule in rules.items()}
    fired = ", ".join(f"{name} {count.fired}" for name, count in counts.items() if count.fired)
    notes = [f"rules: {fired}"] if fired else []
    for name, count in counts.items():
        if count.fired < count.expected:
            silent = (
                f"rule {name} fired {count.fired} times, {component.role} has {count.expected} of what it serves "
                f"({rules[name].serves}): torch {torch.__version__} writes another form, with slower kernels on {target.name}"
            )
            if name in target.required_rules:
                raise MachineError(f"{silent}; install the torch of constraints.txt, or adapt export/to_onnx/rules/{name}.py")
            notes.append(silent)
    return counts, tuple(notes)
