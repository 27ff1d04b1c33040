"""Commands of ``attune`` beyond serve and migrate, one file each; heavy libraries are imported inside."""
