"""The site's images: exams, masks, and the study's grid."""
