"""What ebbtide is about, without any vendor: releases, sagas, gates, planning."""
