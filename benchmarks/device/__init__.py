"""Parts of the device benchmark: random models of real size, and a decoding step that a device can replay."""
