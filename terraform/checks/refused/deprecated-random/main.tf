# refused: It is deprecated: **NOTE**: This is deprecated, use `numeric` instead.
resource "random_password" "main" {
  length = 32
  number = true
}
