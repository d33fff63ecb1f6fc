"""The papers' own benchmarks: painted by ComfyUI servers, judged, and summed up as the papers' scripts do.

Painting:  trouble.py, entries.py, protocol.py, plan.py, graph.py, servers.py, share.py, manifest.py, paint.py
Judging:   judges.py, colour.py, detectors.py, answerers.py, shapes.py, answers.py
Telling:   figures.py, tables.py, sheet.py, compare.py
"""
