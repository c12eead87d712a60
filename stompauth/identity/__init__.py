"""Token to principal: verification and keys."""
