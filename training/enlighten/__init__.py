"""EnlightenGAN (Jiang et al., IEEE TIP 2021, arXiv 1906.06972) for faces, small enough for a CPU: seeing in the dark.

It learns from dark and from bright faces of different people, without pairs. What is published beside it and differs here: widths, which
are scaled down; pictures of faces instead of scenes; the features of the self feature preserving loss, which are those of one of our
releases instead of an ImageNet VGG; and the generator's weights, which are averaged over the last steps.
"""
