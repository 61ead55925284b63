# refused: It is deprecated: versioning is deprecated. Use the aws.s3.BucketVersioning resource instead.
resource "aws_s3_bucket" "main" {
  versioning {
    enabled = true
  }
}
