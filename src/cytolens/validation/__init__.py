"""The known-answer suite: does what is shown point at what a network demonstrably uses?"""
