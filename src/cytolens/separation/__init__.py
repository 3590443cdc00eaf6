"""How well the classes come apart at a layer, class by class, and how alike layers are.

What `measure_separation` measures is in `separation.MEASURES`.
"""
