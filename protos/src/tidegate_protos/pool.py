"""The one descriptor pool that all generated modules of this package register in. Written by hand; holds no messages of its own.

protobuf's default pool refuses a second file that declares `package inference`, which tritonclient and the KServe SDK both do.
With a pool of our own all of them live in one process, in any order of import. Give this pool to server reflection.
"""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
