"""The editor where a node may also stand: inside a subgraph, and in the frontend's App mode."""

import json

import pytest

# Older frontends have no App mode, and no way to open a subgraph from a script that these have.
FIRST_WITH_APP_MODE = (1, 40)

# The one editor wherever it stands: in the graph, or in a subgraph of it.
LAYOUT = """() => {
    const root = app.rootGraph ?? app.graph;
    const graphs = [root, ...(root.subgraphs?.values() ?? [])];
    const [node] = graphs.flatMap((graph) => graph.findNodesByType("DEIG_RegionEditor"));
    return node.widgets.find((widget) => widget.name === "layout").value;
}"""


def regions(editor):
    return json.loads(editor.page.evaluate(LAYOUT))["regions"]


def draw_one(editor, phrase):
    editor.drag((0.2, 0.3), (0.6, 0.8))
    editor.type_phrase(phrase)
    (region,) = regions(editor)
    assert region["phrase"] == phrase
    assert all(
        abs(one - other) < 6e-3 for one, other in zip(region["box"], (0.2, 0.3, 0.6, 0.8), strict=True)
    )


def skip_older(editor):
    if tuple(int(part) for part in editor.case.version.split(".")[:2]) < FIRST_WITH_APP_MODE:
        pytest.skip("this frontend is older than what is tested here")


def test_inside_a_subgraph(editor):
    """Folded into a subgraph and opened there, the editor is drawn on as before, and what is drawn is sent."""
    skip_older(editor)
    editor.build(512, 512)
    editor.page.evaluate(
        """() => {
            const [node] = app.graph.findNodesByType("DEIG_RegionEditor");
            window.folded = app.graph.convertToSubgraph(new Set([node]));
        }"""
    )
    editor.page.wait_for_timeout(1000)
    editor.page.evaluate(
        """() => {
            app.canvas.openSubgraph(folded.subgraph, folded.node);
        }"""
    )
    editor.page.wait_for_timeout(1500)
    editor.page.evaluate(
        """() => {
            const [node] = app.canvas.graph.findNodesByType("DEIG_RegionEditor");
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [200 - node.pos[0], 100 - node.pos[1]];
            app.canvas.setDirty(true, true);
        }"""
    )
    editor.settle()
    draw_one(editor, "a cat in a subgraph")
    editor.screenshot("subgraph-inside")
    editor.page.evaluate("() => app.canvas.setGraph(app.rootGraph)")
    editor.page.wait_for_timeout(1000)
    editor.screenshot("subgraph-outside")
    (region,) = editor.queue()
    assert region["phrase"] == "a cat in a subgraph"


def test_in_app_mode(editor):
    """As an input of an app, the editor is drawn on beside the result, and what is drawn is sent."""
    skip_older(editor)
    editor.build(512, 512)
    editor.page.evaluate(
        """async () => {
            const workflow = app.rootGraph.serialize();
            const id = (type) => workflow.nodes.find((node) => node.type === type).id;
            const linearData = { inputs: [[id("DEIG_RegionEditor"), "layout"]], outputs: [id("PreviewAny")] };
            workflow.extra = { ...workflow.extra, linearMode: true, linearData };
            await app.loadGraphData(workflow);
        }"""
    )
    editor.settle()
    draw_one(editor, "a dog in an app")
    editor.screenshot("app-mode")
    (region,) = editor.queue()
    assert region["phrase"] == "a dog in an app"
