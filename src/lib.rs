//! formidlingd.
