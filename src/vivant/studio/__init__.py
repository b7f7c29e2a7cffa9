"""The studio: renders talking portraits of synthetic people, as training data that harms nobody.

Needs the extra `studio` (numba) and the face model; see `face_model.load_face_model` and `fetch`.
"""
