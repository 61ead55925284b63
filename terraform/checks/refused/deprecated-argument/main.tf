# refused: It is deprecated: source_json is deprecated. This argument is retained only for backward compatibility
data "aws_iam_policy_document" "main" {
  source_json = "{}"
}
