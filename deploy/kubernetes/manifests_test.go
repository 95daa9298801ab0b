package kubernetes

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestManifests decodes each document strictly: a field that the type does not have, or
// one given twice, is an error.
func TestManifests(t *testing.T) {
	b, err := os.ReadFile("stockade.yaml")
	if err != nil {
		t.Fatal(err)
	}
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(b)))
	defer documents.Close()
	pods := make(map[string]corev1.PodSpec)
	kinds := make(map[string]int)
	buf := make([]byte, len(b)+1)
	for {
		n, err := documents.Read(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		object, kind, err := codecs.UniversalDeserializer().Decode(buf[:n], nil, nil)
		if err != nil {
			t.Errorf("%v\n%s", err, buf[:n])
			continue
		}
		kinds[kind.Kind]++
		switch o := object.(type) {
		case *appsv1.StatefulSet:
			pods["node"] = o.Spec.Template.Spec
			if *o.Spec.Replicas != 3 {
				t.Errorf("%d replicas, and --initial-cluster names 3", *o.Spec.Replicas)
			}
		case *appsv1.Deployment:
			pods["router"] = o.Spec.Template.Spec
		}
	}
	for kind, want := range map[string]int{"Service": 2, "StatefulSet": 1, "Deployment": 1, "PodDisruptionBudget": 1, "NetworkPolicy": 1} {
		if kinds[kind] != want {
			t.Errorf("%d of kind %s, want %d", kinds[kind], kind, want)
		}
	}
	for role, pod := range pods {
		checkPod(t, role, pod)
	}
}

// checkPod holds a pod against what both kinds must have.
func checkPod(t *testing.T, role string, pod corev1.PodSpec) {
	t.Helper()
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks || pod.Affinity == nil || pod.Affinity.PodAntiAffinity == nil {
		t.Errorf("%s: it needs enableServiceLinks: false and an anti-affinity", role)
	}
	c := pod.Containers[0]
	if c.Args[0] != role || c.ReadinessProbe == nil || c.LivenessProbe == nil || c.SecurityContext == nil ||
		!*c.SecurityContext.ReadOnlyRootFilesystem || !*pod.SecurityContext.RunAsNonRoot {
		t.Errorf("%s: it needs both probes, a read-only root and a user", role)
	}
	ports := make(map[string]bool)
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	if !ports[c.ReadinessProbe.HTTPGet.Port.StrVal] || !ports[c.LivenessProbe.HTTPGet.Port.StrVal] {
		t.Errorf("%s: a probe asks a port that is not there", role)
	}
}
